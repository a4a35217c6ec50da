"""What the pages show and do: links to runners and jobs, and figures as plain values. Widgets are in pages/."""
