"""Which course of the training data is made: switches that the data generators read.

The tokenizer and shards 0 to 23 were made with both switches off. Held-out samples ask for the same things in the same order
whatever the switches say.
"""
LATE = False         # training samples with stranger names and values, more calls, more refusals
SMALL_STEPS = False  # worked sums in which every step is one look-up of two digits
PIECES = False       # training values are also made of any pieces of the vocabulary
COMPARE = False      # groups of chats about pictures ask for yes or no more often, and about two pictures
WIDE = False         # groups about tools have longer lists, and a tenth of them asks for thinking
