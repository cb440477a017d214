"""Run by alembic, on the connection that it is handed."""

from alembic import context

from scalelite.recordings.examination import VERSION_TABLE
from scalelite.recordings.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
