from pgpo_jax.cli import main

main()
