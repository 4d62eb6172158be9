"""python -m orchestrion.cli"""

from orchestrion.cli import main

main()
