"""The Hessian: products, Lanczos, spectra, the Lipschitz constant of its entries, and the IMC mask."""
