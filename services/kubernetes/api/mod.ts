/**
 * The API server: a client, and a copy that is kept in step. For the service, and for `weir` on people's machines.
 * @module
 */
export * from "./access.ts";
export type { WatchEvent } from "./answer.ts";
export * from "./client.ts";
export * from "./error.ts";
export { type ExecProgram, ExecSession } from "./exec.ts";
export * from "./kubeconfig.ts";
export * from "./object.ts";
export { type PodPort, PORT_FORWARD_PROTOCOL, PortSession } from "./port_forward.ts";
export { fetchPodLog, type PodLog } from "./pod_log.ts";
export * from "./reflector.ts";
export * from "./resource.ts";
export { sameValue } from "./same_value.ts";
