"""What did we measure? Recipes, benchmarks, soundness."""
