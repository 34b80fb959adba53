/**
 * Where a lab keeps its files.
 *
 * @module
 */

/** Directory of all sockets and labs. */
export function runDirectory(): string {
  return Deno.env.get("WEIR_RUN_DIR") ?? "/run/weir";
}
/** Directory of what outlives a restart. */
export function stateDirectory(): string {
  return Deno.env.get("WEIR_STATE_DIR") ?? "/var/lib/weir";
}
/** Directory of one lab: lab.json, lab.sock, lab.log, hosts, logs/. */
export function labDirectory(lab: string): string {
  return `${runDirectory()}/lab/${lab}`;
}
/** Socket of a service of an instance. */
export function serviceSocket(instance: string, service: string): string {
  return `${runDirectory()}/${instance}/${service}.sock`;
}
/** The launcher `scripts/weir` of this checkout. */
export const LAUNCHER: string = new URL("../../scripts/weir", import.meta.url).pathname;
