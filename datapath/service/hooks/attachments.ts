/**
 * Programs on hooks: one pinned link per device and direction. A link that is there is kept; its program is swapped in one
 * step only when it is another one. Without tcx (kernels before 6.6) a clsact filter stands in.
 *
 * @module
 */
import {
  attachCgroup,
  attachClsact,
  attachTcx,
  AttachType,
  attachXdp,
  BpfLink,
  detachClsact,
  listPins,
  openPin,
  pin,
  probeFeature,
  type TcDirection,
  unpin,
} from "@weir/loader";
import type { Kernel } from "../kernel/kernel.ts";

/** What hangs where, for `weir bpf prog list`. */
export interface Attachment {
  program: string;
  target: string;
  attachType: string;
  programId: number;
  tag: string;
}

/** What an attach found. */
export type AttachOutcome = "created" | "kept" | "swapped";

/** Programs on hooks. */
export class Attachments {
  readonly #held = new Map<string, Attachment>();
  readonly tcx: boolean;
  readonly #kernel: Kernel;

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
    this.tcx = probeFeature("tcx links") !== "no";
  }

  /** Hangs a program on a device. Repeatable. @throws {BpfError} attach-failed */
  device(program: string, ifindex: number, deviceName: string, direction: TcDirection): AttachOutcome {
    const kernel = this.#kernel;
    if (!this.tcx) {
      attachClsact(kernel.attachable(program).fd, ifindex, direction);
      this.#note(`clsact-${ifindex}-${direction}`, program, deviceName, `clsact ${direction}`);
      return "created";
    }
    const path = kernel.pins.deviceLink(ifindex, direction);
    const outcome = this.#keep(path, program, (link) => link.info.ifindex === ifindex) ??
      this.#create(path, () => attachTcx(kernel.attachable(program).fd, ifindex, direction));
    this.#note(path, program, deviceName, `tcx ${direction}`);
    return outcome;
  }

  /** Hangs a program on a cgroup. Repeatable. */
  cgroup(program: string, id: bigint, path: string, direction: TcDirection): AttachOutcome {
    const type = direction === "ingress" ? AttachType.CGROUP_INET_INGRESS : AttachType.CGROUP_INET_EGRESS;
    const pinPath = this.#kernel.pins.cgroupLink(id, direction);
    return this.#cgroup(pinPath, program, { id, path }, type, `cgroup ${direction}`);
  }

  /** Hangs a program on the sockets of the root of the cgroups, so of all processes. Repeatable. */
  root(program: string, root: { id: bigint; path: string }, type: number, typeName: string): AttachOutcome {
    return this.#cgroup(this.#kernel.pins.rootLink(program), program, root, type, `cgroup ${typeName}`);
  }

  /** Takes a program off the root of the cgroups. */
  removeRoot(program: string): void {
    const path = this.#kernel.pins.rootLink(program);
    unpin(path);
    this.#held.delete(path);
  }

  /**
   * Hangs a program on XDP of a device, in its driver if that can. Repeatable.
   * @param native false: behind the driver in any case
   * @throws {BpfError} attach-failed
   */
  xdp(program: string, ifindex: number, deviceName: string, native: boolean): AttachOutcome {
    const path = this.#kernel.pins.xdpLink(ifindex);
    const { fd } = this.#kernel.attachable(program);
    const outcome = this.#keep(path, program, (link) => link.info.ifindex === ifindex) ??
      this.#create(path, () => {
        try {
          return attachXdp(fd, ifindex, native ? "native" : "generic");
        } catch (error) {
          if (!native) throw error;
          return attachXdp(fd, ifindex, "generic");
        }
      });
    this.#note(path, program, deviceName, "xdp");
    return outcome;
  }

  /** Takes ours off XDP of a device; false when there was none. */
  removeXdp(ifindex: number): boolean {
    const path = this.#kernel.pins.xdpLink(ifindex);
    this.#held.delete(path);
    return unpin(path);
  }

  /** Takes everything of ours off a device. */
  removeDevice(ifindex: number): void {
    this.removeXdp(ifindex);
    for (const direction of ["ingress", "egress"] as const) {
      const path = this.#kernel.pins.deviceLink(ifindex, direction);
      unpin(path);
      this.#held.delete(path);
      if (!this.tcx) {
        detachClsact(ifindex, direction);
        this.#held.delete(`clsact-${ifindex}-${direction}`);
      }
    }
  }

  /** Takes everything of ours off a cgroup. */
  removeCgroup(id: bigint): void {
    for (const direction of ["ingress", "egress"] as const) {
      const path = this.#kernel.pins.cgroupLink(id, direction);
      unpin(path);
      this.#held.delete(path);
    }
  }

  /** What hangs now, by this process's knowledge. */
  list(): Attachment[] {
    return [...this.#held.values()];
  }

  /** Pins of links that nobody asked for since the start. */
  leftovers(): string[] {
    return listPins(this.#kernel.pins.links).filter((path) => !this.#held.has(path));
  }

  #cgroup(
    pinPath: string,
    program: string,
    target: { id: bigint; path: string },
    type: number,
    attachType: string,
  ): AttachOutcome {
    const outcome = this.#keep(pinPath, program, (link) => link.info.cgroupId === target.id) ??
      this.#create(pinPath, () => attachCgroup(this.#kernel.attachable(program).fd, target.path, type));
    this.#note(pinPath, program, target.path, attachType);
    return outcome;
  }

  /** Keeps a pinned link of the right target; undefined when there is none. */
  #keep(path: string, program: string, isTarget: (link: BpfLink) => boolean): AttachOutcome | undefined {
    const fd = openPin(path);
    if (fd === undefined) return undefined;
    using link = new BpfLink(fd, path);
    // The device of a link may be gone and its number may have come again.
    if (!isTarget(link)) {
      unpin(path);
      return undefined;
    }
    const wanted = this.#kernel.attachable(program);
    if (link.info.programId === wanted.info.id) return "kept";
    link.update(wanted.fd);
    return "swapped";
  }

  #create(path: string, attach: () => BpfLink): AttachOutcome {
    using link = attach();
    pin(link.fd, path);
    return "created";
  }

  #note(key: string, program: string, target: string, attachType: string): void {
    const { info } = this.#kernel.attachable(program);
    this.#held.set(key, { program, target, attachType, programId: info.id, tag: info.tag });
  }
}
