"""What a comparison and a history say."""
