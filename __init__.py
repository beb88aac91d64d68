"""penstock runs Python event pipelines on all cores of one machine and keeps their order."""
