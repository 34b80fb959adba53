/**
 * Where the kernel objects of one instance are pinned:
 *
 *     /sys/fs/bpf/weir/<instance>/maps/<map>  progs/<program>  links/dev-<ifindex>-<direction>  links/dev-<ifindex>-xdp
 *                                         links/cgroup-<id>-<direction>  links/root-<program>
 *
 * @module
 */
import { BPFFS, listPins } from "@weir/loader";
import { ProblemError } from "@weir/common";

/** Above every instance. */
export const PIN_ROOT = `${BPFFS}/weir`;

/** Paths of one instance. */
export class Pins {
  readonly root: string;

  /** @throws {ProblemError} INSTANCE_INVALID for a name that is no file name */
  constructor(readonly instance: string) {
    if (!/^[a-z0-9][a-z0-9._-]{0,62}$/.test(instance)) {
      throw new ProblemError("INSTANCE_INVALID", {
        detail: `Cannot use instance ${JSON.stringify(instance)}: it is no plain name`,
        found: instance,
        expected: "lower-case letters, digits, dot, dash, underscore; at most 63",
      });
    }
    this.root = `${PIN_ROOT}/${instance}`;
  }

  map(name: string): string {
    return `${this.root}/maps/${name}`;
  }
  program(name: string): string {
    return `${this.root}/progs/${name}`;
  }
  get links(): string {
    return `${this.root}/links`;
  }
  deviceLink(ifindex: number, direction: "ingress" | "egress"): string {
    return `${this.links}/dev-${ifindex}-${direction}`;
  }
  cgroupLink(id: bigint, direction: "ingress" | "egress"): string {
    return `${this.links}/cgroup-${id}-${direction}`;
  }
  xdpLink(ifindex: number): string {
    return `${this.links}/dev-${ifindex}-xdp`;
  }
  /** Interfaces that {@link xdpLink} names, of pins that are there. */
  xdpInterfaces(): number[] {
    return listPins(this.links).flatMap((path) => {
      const match = /\/dev-(\d+)-xdp$/.exec(path);
      return match ? [Number(match[1])] : [];
    });
  }
  /** A program on the root of the cgroups. */
  rootLink(program: string): string {
    return `${this.links}/root-${program}`;
  }
  /** Owner mark of devices: `weir:<instance>:<what>`. */
  alias(what: string): string {
    return `weir:${this.instance}:${what}`;
  }
}
