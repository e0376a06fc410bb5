"""What asv discovers: a thin reader of the studies. asv imports modules, never classes, from here on."""
