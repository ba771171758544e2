"""What joins the rooms below to one program: endpoints by name, runs with their tasks, tournaments and streams."""
