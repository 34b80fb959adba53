/**
 * Services from outside at XDP of the outer devices, where the node is configured so: in the driver, or else behind it,
 * which saves nothing but keeps what is seen the same everywhere. from_netdev stays: it does what XDP passes on.
 *
 * On a veth always behind it: its driver loses what XDP sends back unless the other end, which is somebody else's, has an XDP
 * program too (veth_xdp_flush() asks for one; without GRO there it is not even queued).
 *
 * @module
 */
import { type Device, deviceAt, type NetlinkSocket } from "@weir/net";
import type { NodeConfig } from "@weir/proto/datapath";
import type { Attachments } from "./attachments.ts";
import type { Kernel } from "../kernel/kernel.ts";
import type { MapOf } from "../kernel/typed_map.ts";

const PROGRAM = "xdp_netdev";

/** How it hangs, for `GET /v1/status`. */
export type XdpMode = "" | "native" | "generic" | "mixed" | "not in tunnel mode";

/** Services from outside at XDP of the outer devices, where the node is configured so. */
export class XdpHooks {
  mode: XdpMode = "";
  readonly #devices: MapOf<"weir_xdp_devices">;
  readonly #parts: { kernel: Kernel; attachments: Attachments; socket: NetlinkSocket };

  constructor(
    parts: { kernel: Kernel; attachments: Attachments; socket: NetlinkSocket },
  ) {
    this.#parts = parts;
    this.#devices = parts.kernel.typed("weir_xdp_devices");
  }

  /** Makes XDP of the outer devices follow the configuration. Repeatable. @throws {BpfError} attach-failed */
  apply(outer: readonly Device[], config: Pick<NodeConfig, "xdp" | "routingMode">): void {
    const { kernel, attachments, socket } = this.#parts;
    const direct = config.routingMode === "DIRECT";
    const wanted = config.xdp && direct ? outer : [];
    const indexes = new Set(wanted.map(({ ifindex }) => ifindex));
    for (const ifindex of kernel.pins.xdpInterfaces()) {
      if (!indexes.has(ifindex)) attachments.removeXdp(ifindex);
    }
    const modes = new Set<string>();
    for (const { ifindex, name, kind } of wanted) {
      attachments.xdp(PROGRAM, ifindex, name, kind !== "veth");
      modes.add(deviceAt(socket, ifindex)?.xdp ?? "generic");
    }
    // A driver takes frames of another device as a rule only when it runs XDP itself.
    const takers = modes.size === 1 && indexes.size > 1 ? indexes : new Set<number>();
    for (const [ifindex] of this.#devices.entries()) if (!takers.has(ifindex)) this.#devices.delete(ifindex);
    for (const ifindex of takers) this.#devices.put(ifindex, 1);
    this.mode = config.xdp && !direct
      ? "not in tunnel mode"
      : modes.size > 1
      ? "mixed"
      : [...modes][0] as XdpMode ?? "";
  }
}
