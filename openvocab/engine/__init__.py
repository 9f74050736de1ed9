"""What mmengine's runner needs to be resumable, exact and safe."""
