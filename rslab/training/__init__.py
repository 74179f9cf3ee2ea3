"""How is it trained? One loop, one loss a method."""
