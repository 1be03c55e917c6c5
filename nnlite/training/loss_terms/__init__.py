"""The terms that a loss is a sum of: each a function of one level of the decoder, 0 where the answer is perfect."""
