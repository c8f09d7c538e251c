"""Settings from ``agenthost.toml`` and ``AGENTHOST_*`` environment variables, read only when told.

load.py              load_config, Config
table.py, tables.py  what may stand in the file      agent_table.py   its table [agent]
sources.py           the file and the environment    build.py         what the library takes
environment.py       the same from AGENTHOST_* variables
provider_options.py  what a provider says that it takes
shape.py             a walk through types
secrets.py           what must not be written down      mistakes.py      what is wrong, and where
collected.py         all mistakes as one error
"""

from agenthost.config.load import Config, load_config

__all__ = ["Config", "load_config"]
