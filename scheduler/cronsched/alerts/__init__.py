"""Alerts: somebody is told when jobs fail, occurrences are missed or late, or nobody does the work.

    finding   what has happened, and what is wrong now, from the rows
    deciding  what follows from it: pure
    muting    what nobody is told of for a time
    looking   one look: find, decide, write the messages down
    outbox    the messages, each for one channel: who sends it, and when it is tried again
    channels  sent by e-mail, webhook, command, apprise; `outside` is how the web is reached
    pings     the addresses that wait for a sign of life
    sending   the thread that sends, and what a worker and a daemon call every few seconds

Every worker and every daemon takes part. A row of the database decides who looks, and which of them sends a
message; if he dies over it, another one sends it.
"""
