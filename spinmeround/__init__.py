"""SpinMeRound: from seeds to a trained multi-view identity model of heads."""
