declare namespace Cloudflare {
  interface Env {
    ENGINE_URL: string;
  }

  interface GlobalProps {
    mainModule: typeof import("./worker");
  }
}
