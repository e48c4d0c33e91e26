"""Alembic's environment: the connection, or the dialect to print for, comes from cronqueue.schema."""

from alembic import context

from cronqueue.models import Base
from cronqueue.schema import VERSION_TABLE

attributes = context.config.attributes
if context.is_offline_mode():
    context.configure(
        dialect_name=attributes["dialect"], version_table=VERSION_TABLE, literal_binds=True
    )
else:
    context.configure(
        connection=attributes["connection"],
        target_metadata=Base.metadata,
        version_table=VERSION_TABLE,
    )

with context.begin_transaction():
    context.run_migrations()
