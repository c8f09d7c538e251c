// The Worker as it is deployed, but for where its containers are.

export { ContainerProxy } from "@cloudflare/sandbox";
export { WarmPool } from "@cloudflare/sandbox/bridge";

export { Directory } from "../src/directory";
export { default } from "../src/worker";
export { StubContainer as Sandbox } from "./stub";
