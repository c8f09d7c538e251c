// What is deployed.

export { WarmPool } from "@cloudflare/sandbox/bridge";

export { Directory } from "./directory";
export { ContainerProxy, Sandbox } from "./sandbox";
export { default } from "./worker";
