/**
 * Which tagged frames pass the outer devices: those of VLANs that the configuration names, and of VLAN devices that are outer
 * devices themselves, at the device below. Their network is not the pods': the programs let them by without a look inside
 * (lib/vlan.h).
 *
 * @module
 */
import { ProblemError } from "@weir/common";
import type { Device } from "@weir/net";
import type { Kernel } from "../kernel/kernel.ts";

const VLAN_MAX = 4094;

/** Which tagged frames pass the outer devices. */
export class VlanStore {
  readonly #kernel: Kernel;

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
  }

  /** Makes weir_vlans follow. Repeatable. @throws {ProblemError} VLAN_INVALID, before anything is written */
  apply(allowed: readonly number[], outer: readonly Device[]): void {
    for (const vlan of allowed) {
      if (Number.isInteger(vlan) && vlan >= 1 && vlan <= VLAN_MAX) continue;
      throw new ProblemError("VLAN_INVALID", {
        status: 422,
        detail: `Cannot let VLAN ${vlan} through: there is no such VLAN`,
        found: `${vlan}`,
        expected: `1 to ${VLAN_MAX}`,
      });
    }
    const vlans = this.#kernel.typed("weir_vlans");
    const wanted = new Map<string, { ifindex: number; vlan: number }>();
    const want = (ifindex: number, vlan: number) => wanted.set(`${ifindex} ${vlan}`, { ifindex, vlan });
    for (const { ifindex } of outer) for (const vlan of allowed) want(ifindex, vlan);
    for (const { vlan } of outer) if (vlan !== undefined) want(vlan.parent, vlan.id);
    for (const key of wanted.values()) vlans.put(key, 1);
    for (const [key] of vlans.entries()) {
      if (!wanted.has(`${key.ifindex} ${key.vlan}`)) vlans.delete(key);
    }
  }
}
