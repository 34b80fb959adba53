/**
 * Where an instance keeps what, and as whom its services run.
 *
 * @module
 */
import { unprivilegedUser } from "@weir/common";
import type { AgentConfig } from "./config.ts";

/** Paths and ids of one instance. */
export interface Layout {
  readonly instance: string;
  /** Sockets: /run/weir/<instance>, root:weir, mode 3770. */
  readonly sockets: string;
  /** State: /var/lib/weir/<instance>, root:weir, mode 0750; below it a directory for each service that has state. */
  readonly state: string;
  /** Bundled code that everybody may read. */
  readonly code: string;
  /** Who the unprivileged services are. */
  readonly uid: number;
  readonly gid: number;
  /** Path of the L7 proxy's control group; absent: it has none. */
  readonly proxyCgroup?: string;
}

/** Computes the layout. Reads /etc/passwd. */
export function layoutOf(config: AgentConfig): Layout {
  const { uid, gid } = unprivilegedUser(Deno.readTextFileSync("/etc/passwd"));
  return {
    instance: config.instance,
    sockets: `${config.runDirectory}/${config.instance}`,
    state: `${config.stateDirectory}/${config.instance}`,
    code: `${config.runDirectory}/.code`,
    uid,
    gid,
  };
}

/** Socket of a service. */
export function socketOf(layout: Layout, service: string): string {
  return `${layout.sockets}/${service}.sock`;
}

/** Socket of a service that answers reading requests only. */
export function readSocketOf(layout: Layout, service: string): string {
  return `${layout.sockets}/${service}-read.sock`;
}

/** Socket of this node with Hubble's gRPC API. */
export function hubbleSocketOf(layout: Layout): string {
  return `${layout.sockets}/hubble.sock`;
}

/** Socket of this node at which the L7 proxy hands records to the flow exporter. */
export function l7RecordsSocketOf(layout: Layout): string {
  return `${layout.sockets}/l7-records.sock`;
}

/** Socket with the flows of the whole cluster, where the relay runs. */
export function relaySocketOf(layout: Layout): string {
  return `${layout.sockets}/hubble-relay.sock`;
}

/** Socket for the CNI plugin, mode 0600: root's alone. */
export function cniSocketOf(layout: Layout): string {
  return `${layout.sockets}/cni.sock`;
}

/** Socket of this node at which the L7 proxy tells what endpoints have heard of names. */
export function namesSocketOf(layout: Layout): string {
  return `${layout.sockets}/endpoint-manager-names.sock`;
}

/** Where the CNI plugin leaves deletions while nobody answers: in a directory of root's, which nobody can put a link in place of. */
export function cniDeletionsOf(layout: Layout): string {
  return `${layout.state}/cni-deletions`;
}

/** Socket with the web page, where it runs. */
export function pageSocketOf(layout: Layout): string {
  return `${layout.sockets}/ui-page.sock`;
}

/** State of a service, which alone reads and writes it: mode 0700. */
export function stateOf(layout: Layout, service: string): string {
  return `${layout.state}/${service}`;
}

/** Makes the directories with their owners and modes. Repeatable. */
export async function createDirectories(layout: Layout): Promise<void> {
  await directory(layout.sockets.slice(0, layout.sockets.lastIndexOf("/")), 0o755, 0, 0);
  // The group bit on the directory gives every socket in it the group, whoever makes it; the sticky bit keeps everybody
  // from removing what belongs to another user.
  await directory(layout.sockets, 0o3770, 0, layout.gid);
  await directory(layout.code, 0o755, 0, 0);
  await directory(layout.state.slice(0, layout.state.lastIndexOf("/")), 0o755, 0, 0);
  // Root's: a service cannot put something else in the place of its directory, which the agent would then take for it.
  await directory(layout.state, 0o750, 0, layout.gid);
  // The plugin, which is root, writes there; the endpoint manager plays back and removes.
  await directory(cniDeletionsOf(layout), 0o700, layout.uid, layout.gid);
}

/** Makes a directory with this owner and mode, or gives them to the one that is there. Repeatable. */
export async function directory(path: string, mode: number, uid: number, gid: number): Promise<void> {
  await Deno.mkdir(path, { recursive: true });
  await Deno.chown(path, uid, gid);
  await Deno.chmod(path, mode); // after chown, which clears the group bit
}
