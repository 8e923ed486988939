import { defineConfig } from "vite";

// Nothing is inlined, and the worker has chunks too: each file is a request of its own.
export default defineConfig({ build: { assetsInlineLimit: 0 }, worker: { format: "es" } });
