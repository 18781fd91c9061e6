"""What Alembic runs a migration in: the connection, with a transaction begun, that ``upgrades`` hands over."""

from alembic import context

from resources import sql_database

context.configure(
    connection=context.config.attributes["connection"],
    version_table=sql_database.VERSION.name,
    transactional_ddl=False,  # the transaction is that of the caller
)
context.run_migrations()
