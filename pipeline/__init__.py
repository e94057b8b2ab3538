"""The stages of Lacuna, one file a stage; docs/ARCHITECTURE.md says what lies where."""
