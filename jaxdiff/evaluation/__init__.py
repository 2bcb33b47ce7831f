"""What a denoiser is worth: the certificate in nats, nearest neighbors, exact answers for toy models."""
