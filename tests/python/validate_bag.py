"""Validates a bag with the Library of Congress' own library; exit code 1 if it is not whole.

Usage: validate_bag.py DIRECTORY
"""

import sys

import bagit

try:
    bagit.Bag(sys.argv[1]).validate()
except bagit.BagError as error:
    sys.exit(f"{error}")
