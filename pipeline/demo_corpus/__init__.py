"""How the demo corpus is constructed: plan, sentences, speech, pictures, and the folder of all."""
