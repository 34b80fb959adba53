/** Facts that the kernel gives about a program, map or link by its file descriptor. @module */
import { BpfError } from "./errors.ts";
import { libbpf } from "./library.ts";

/** `struct bpf_map_info`. */
export interface MapInfo {
  type: number;
  id: number;
  keySize: number;
  valueSize: number;
  entriesMax: number;
  flags: number;
  name: string;
  btfId: number;
  btfKeyTypeId: number;
  btfValueTypeId: number;
}

/** `struct bpf_prog_info`, the part that is used. */
export interface ProgramInfo {
  type: number;
  id: number;
  /** 16 hex digits. */
  tag: string;
  name: string;
  mapIds: number[];
  jitedBytes: number;
  xlatedBytes: number;
  verifiedInsns: number;
  /** How often it ran and for how long in all, while the kernel counts that (`kernel.bpf_stats_enabled`). */
  runCount: number;
  runTimeNs: number;
}

/** `struct bpf_link_info`; what it hangs on, by type. */
export interface LinkInfo {
  type: number;
  id: number;
  programId: number;
  /** Interface of an XDP or tcx link; 0 when its interface is gone. */
  ifindex?: number;
  attachType?: number;
  cgroupId?: bigint;
}

/** Link types of the kernel. */
export const LinkType = { CGROUP: 3, XDP: 6, TCX: 11, NETKIT: 13 } as const;

/** Facts of a map. @throws {BpfError} */
export function mapInfo(fd: number): MapInfo {
  const view = readInfo(fd, 88, "map");
  return {
    type: view.getUint32(0, true),
    id: view.getUint32(4, true),
    keySize: view.getUint32(8, true),
    valueSize: view.getUint32(12, true),
    entriesMax: view.getUint32(16, true),
    flags: view.getUint32(20, true),
    name: nameAt(view, 24),
    btfId: view.getUint32(64, true),
    btfKeyTypeId: view.getUint32(68, true),
    btfValueTypeId: view.getUint32(72, true),
  };
}

/** Most maps that are listed of one program. */
const MAPS_PER_PROGRAM_MAX = 64;

/** Facts of a program. @throws {BpfError} */
export function programInfo(fd: number): ProgramInfo {
  const mapIds = new Uint32Array(MAPS_PER_PROGRAM_MAX);
  const view = readInfo(fd, 232, "program", (v) => {
    v.setUint32(52, MAPS_PER_PROGRAM_MAX, true);
    v.setBigUint64(56, Deno.UnsafePointer.value(Deno.UnsafePointer.of(mapIds)), true);
  });
  const tag = [...new Uint8Array(view.buffer, 8, 8)].map((b) => b.toString(16).padStart(2, "0")).join("");
  return {
    type: view.getUint32(0, true),
    id: view.getUint32(4, true),
    tag,
    name: nameAt(view, 64),
    mapIds: [...mapIds.subarray(0, Math.min(view.getUint32(52, true), MAPS_PER_PROGRAM_MAX))],
    jitedBytes: view.getUint32(16, true),
    xlatedBytes: view.getUint32(20, true),
    verifiedInsns: view.getUint32(216, true),
    runTimeNs: Number(view.getBigUint64(192, true)),
    runCount: Number(view.getBigUint64(200, true)),
  };
}

/** Facts of a link. @throws {BpfError} */
export function linkInfo(fd: number): LinkInfo {
  const view = readInfo(fd, 64, "link");
  const info: LinkInfo = {
    type: view.getUint32(0, true),
    id: view.getUint32(4, true),
    programId: view.getUint32(8, true),
  };
  if (info.type === LinkType.XDP) info.ifindex = view.getUint32(16, true);
  if (info.type === LinkType.TCX) {
    info.ifindex = view.getUint32(16, true);
    info.attachType = view.getUint32(20, true);
  }
  if (info.type === LinkType.CGROUP) {
    info.cgroupId = view.getBigUint64(16, true);
    info.attachType = view.getUint32(24, true);
  }
  return info;
}

function readInfo(fd: number, size: number, what: string, prepare?: (view: DataView) => void): DataView {
  const view = new DataView(new ArrayBuffer(size));
  prepare?.(view);
  const length = new Uint32Array([size]);
  const result = libbpf().bpf_obj_get_info_by_fd(
    fd,
    new Uint8Array(view.buffer),
    new Uint8Array(length.buffer),
  );
  if (result < 0) {
    throw new BpfError("syscall-failed", `Cannot read the facts of a ${what}`, { errno: -result });
  }
  return view;
}

function nameAt(view: DataView, offset: number): string {
  const bytes = new Uint8Array(view.buffer, offset, 16);
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(bytes.subarray(0, end < 0 ? 16 : end));
}
