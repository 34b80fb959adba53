/**
 * Where an instance keeps what, and as whom its services run.
 *
 * @module
 */
import type { AgentConfig } from "./config.ts";

/** Paths and ids of one instance. */
export interface Layout {
  readonly instance: string;
  /** Sockets: /run/weir/<instance>, root:weir, mode 2770. */
  readonly sockets: string;
  /** State: /var/lib/weir/<instance>, owned by the unprivileged user, mode 0750. */
  readonly state: string;
  /** Bundled code that everybody may read. */
  readonly code: string;
  /** Who the unprivileged services are. */
  readonly uid: number;
  readonly gid: number;
}

/** Users that the unprivileged services may run as, in order of preference. */
const USERS = ["weir", "nobody"];

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

/** The ids of the first of {@link USERS} that the system has. */
export function unprivilegedUser(passwd: string): { uid: number; gid: number } {
  for (const user of USERS) {
    const line = passwd.split("\n").find((line) => line.startsWith(`${user}:`));
    const fields = line?.split(":");
    if (fields !== undefined && Number(fields[2]) > 0) {
      return { uid: Number(fields[2]), gid: Number(fields[3]) };
    }
  }
  throw new Error(`Cannot find a user to run services as: expected ${USERS.join(" or ")} in /etc/passwd`);
}

/** Socket of a service. */
export function socketOf(layout: Layout, service: string): string {
  return `${layout.sockets}/${service}.sock`;
}

/** Makes the directories with their owners and modes. Repeatable. */
export async function createDirectories(layout: Layout): Promise<void> {
  await directory(layout.sockets.slice(0, layout.sockets.lastIndexOf("/")), 0o755, 0, 0);
  // The group bit on the directory gives every socket in it the group, whoever makes it.
  await directory(layout.sockets, 0o2770, 0, layout.gid);
  await directory(layout.code, 0o755, 0, 0);
  await directory(layout.state.slice(0, layout.state.lastIndexOf("/")), 0o755, 0, 0);
  await directory(layout.state, 0o750, layout.uid, layout.gid);
}

async function directory(path: string, mode: number, uid: number, gid: number): Promise<void> {
  await Deno.mkdir(path, { recursive: true });
  await Deno.chown(path, uid, gid);
  await Deno.chmod(path, mode); // after chown, which clears the group bit
}
