import { cloudflareTest } from "@cloudflare/vitest-plugin";
import { defineConfig } from "vitest/config";

import { Engine } from "./test/engine.ts";

const engine = new Engine();

export default defineConfig({
  plugins: [
    cloudflareTest({
      main: "./test/worker.ts",
      miniflare: {
        compatibilityDate: "2026-10-01",
        bindings: { SANDBOX_API_KEY: "the key of these tests", ENGINE_URL: "http://engine" },
        durableObjects: {
          Sandbox: { className: "Sandbox", useSQLite: true },
          Directory: { className: "Directory", useSQLite: true },
          WarmPool: { className: "WarmPool", useSQLite: true },
        },
        outboundService: (request: Request) => engine.answer(request), // all that the Worker fetches
      },
    }),
  ],
  // @cloudflare/sandbox prints a good deal.
  test: { include: ["test/*.test.ts"], silent: "passed-only" },
});
