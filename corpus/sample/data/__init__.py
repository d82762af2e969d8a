"""Words, sentence frames, facts and phrases of the sample; each file opens with its notation."""
