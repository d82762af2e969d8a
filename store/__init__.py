"""What exists: artifacts, manifests, schemas, token shards, model folders. Imports no other room, no ray and no torch."""
