"""Matrix-multiplication schemes in exact integers: files, proof, lifting, symmetry, formulas and
pictures. No JAX.
"""
