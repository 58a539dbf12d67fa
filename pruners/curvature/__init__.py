"""Hessian products, Lanczos, spectra, the Lipschitz constant, and the IMC mask."""
