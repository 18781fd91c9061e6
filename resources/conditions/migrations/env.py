"""What Alembic runs a migration in: the connection, with a transaction begun, that ``upgrades`` hands over."""

from alembic import context

from resources.conditions import schema

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=schema.metadata,
    version_table=schema.version.name,
    transactional_ddl=False,  # the transaction is that of the caller
)
context.run_migrations()
