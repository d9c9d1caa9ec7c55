"""AlphaTensor's tensor game: write a matrix-multiplication tensor as a sum of few rank-one
terms.
"""
