/** Which ports are listened on in the network namespace of some processes. @module */

/** Files of /proc/PID/net with the state that means "listens", or for UDP "bound" (include/net/tcp_states.h). */
const FILES = [["tcp", "TCP", "0A"], ["tcp6", "TCP", "0A"], ["udp", "UDP", "07"], ["udp6", "UDP", "07"]];

/** Sockets that take connections or datagrams. */
export class Listeners {
  /** "PORT/PROTOCOL" -> addresses, in the kernel's hexadecimal words. */
  readonly #addresses = new Map<string, string[]>();

  /** Takes in one of the kernel's files. */
  add(text: string, protocol: string, state: string): void {
    for (const line of text.split("\n").slice(1)) {
      const [, local, , is] = line.trim().split(/\s+/);
      if (is !== state) continue;
      const colon = local.lastIndexOf(":");
      const key = `${parseInt(local.slice(colon + 1), 16)}/${protocol}`;
      const addresses = this.#addresses.get(key);
      if (addresses === undefined) this.#addresses.set(key, [local.slice(0, colon)]);
      else addresses.push(local.slice(0, colon));
    }
  }

  /** Why nobody from another namespace reaches this port; "" when somebody listens. */
  missing({ port, protocol }: { port: number; protocol: string }): string {
    const addresses = this.#addresses.get(`${port}/${protocol}`);
    if (addresses === undefined) return `nothing listens on ${port}/${protocol}`;
    return addresses.every(isLoopback) ? `${port}/${protocol} is listened on at 127.0.0.1 or ::1 only` : "";
  }
}

/** Reads what the processes' namespace has; nothing when they are gone. */
export async function listenersOf(pids: readonly number[]): Promise<Listeners> {
  const found = new Listeners();
  const [pid] = pids;
  if (pid === undefined) return found;
  await Promise.all(FILES.map(async ([file, protocol, state]) => {
    found.add(await Deno.readTextFile(`/proc/${pid}/net/${file}`).catch(() => ""), protocol, state);
  }));
  return found;
}

/** 127.0.0.0/8 and ::1, words as the kernel prints them: of each 32 bits the little-endian number (x86-64, arm64). */
function isLoopback(hex: string): boolean {
  return hex.length === 8 ? hex.endsWith("7F") : hex === "00000000000000000000000001000000";
}
