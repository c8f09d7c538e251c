"""What works on a tree of files: on the host as it is, and in a sandbox as the text of a program.

Standard library only, Python 3.10 and newer, and nothing of agenthost but itself.
"""
