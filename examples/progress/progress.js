// Starts the job, then asks once a second how far it is, until it has ended.
const api = "/sched/api/v1/jobs";
const find = id => document.getElementById(id);

find("start").addEventListener("submit", async event => {
  event.preventDefault();
  const asked = {task: "shop.report", args: [new FormData(event.target).get("month")]};
  const answer = await fetch(api, {
    method: "POST",
    headers: {
      "Content-Type": "application/json",
      // Sent again after a lost answer, this would not start a second report.
      "Idempotency-Key": Date.now() + "-" + Math.random().toString(36).slice(2),
    },
    body: JSON.stringify(asked),
  });
  const found = await answer.json();
  if (!answer.ok) return show(0, found.detail);
  follow(found.data.id);
});

async function follow(id) {
  const job = (await (await fetch(`${api}/${id}`)).json()).data;
  if (job.state === "succeeded") return show(1, `${job.result.pages} pages are there`);
  if (["failed", "cancelled", "skipped"].includes(job.state)) return show(0, `${job.state}: ${job.reason}`);
  const {done, total, message} = job.progress ?? {done: 0, total: 1, message: "waiting for a worker"};
  show(done / total, message);
  setTimeout(follow, 1000, id);
}

function show(share, words) {
  find("shown").hidden = false;
  find("bar").value = share;
  find("words").textContent = words;
}
