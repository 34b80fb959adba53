/**
 * Verdicts on disk by content: a program with the same instructions, map facts, kernel profile and verifier version is
 * not judged twice. Only accepts are kept. One directory per verifier version, so that revoking a version is removing it.
 *
 * @module
 */
import { createHash } from "node:crypto";
import type { GateReport, GateRequest, Verifier } from "./verifier.ts";

/** Most verdicts kept per verifier version; beyond it the cache begins anew. */
export const VERDICTS_MAX = 1024;

/** Verdicts on disk by content. A directory that others may write is not used at all. */
export class VerdictCache {
  readonly #directory: string | undefined;

  /** @param directory kept private (mode 0700); undefined keeps nothing */
  constructor(directory: string | undefined) {
    this.#directory = directory;
  }

  /** The accept of an equal request, if there was one. */
  get(verifier: Verifier, request: GateRequest): GateReport | undefined {
    if (this.#directory === undefined || !this.#isPrivate()) return undefined;
    try {
      const path = this.#path(verifier, verdictKey(verifier, request));
      const found = JSON.parse(Deno.readTextFileSync(path)) as GateReport;
      const complete = found.verdict === "accepted" && typeof found.visits === "number" &&
        typeof found.timeUs === "number";
      // The descriptors in the instructions differ from run to run, so the hash is made anew for these bytes.
      return complete ? { ...found, hash: contentHash(request.insns) } : undefined;
    } catch {
      return undefined; // absent or torn: it is judged anew
    }
  }

  /** Keeps an accept. */
  put(verifier: Verifier, request: GateRequest, report: GateReport): void {
    if (this.#directory === undefined || report.verdict !== "accepted") return;
    const directory = `${this.#directory}/${versionName(verifier)}`;
    try {
      Deno.mkdirSync(directory, { recursive: true, mode: 0o700 });
      if (!this.#isPrivate()) return;
      if ([...Deno.readDirSync(directory)].length >= VERDICTS_MAX) {
        Deno.removeSync(directory, { recursive: true });
        Deno.mkdirSync(directory, { mode: 0o700 });
      }
      const path = this.#path(verifier, verdictKey(verifier, request));
      const fresh = `${path}.${Deno.pid}.new`; // several nodes of a lab may write one directory
      Deno.writeTextFileSync(fresh, JSON.stringify(report), { mode: 0o600 });
      Deno.renameSync(fresh, path);
    } catch {
      // A cache that cannot be written only costs time.
    }
  }

  /** Forgets every verdict of a version. */
  revoke(version: string): boolean {
    if (this.#directory === undefined) return false;
    try {
      Deno.removeSync(`${this.#directory}/${fileName(version)}`, { recursive: true });
      return true;
    } catch {
      return false;
    }
  }

  #path(verifier: Verifier, key: string): string {
    return `${this.#directory}/${versionName(verifier)}/${key}.json`;
  }

  #isPrivate(): boolean {
    try {
      const info = Deno.statSync(this.#directory!);
      return info.isDirectory && ((info.mode ?? 0o777) & 0o022) === 0 && info.uid === Deno.uid();
    } catch {
      return false;
    }
  }
}

/** SHA-256 of the instructions, lower-case hex. */
export function contentHash(insns: Uint8Array): string {
  return createHash("sha256").update(insns).digest("hex");
}

/** Key of a request: descriptors are replaced by the order of first use, map facts stand for the maps. */
export function verdictKey(verifier: Verifier, request: GateRequest): string {
  const insns = request.insns.slice();
  const view = new DataView(insns.buffer);
  const order = new Map<number, number>();
  for (let at = 0; at + 16 <= insns.length; at += 8) {
    if (insns[at] !== 0x18) continue;
    const kind = insns[at + 1] >> 4;
    if (kind === 1 || kind === 2) {
      const fd = view.getInt32(at + 4, true);
      if (!order.has(fd)) order.set(fd, order.size);
      view.setInt32(at + 4, order.get(fd)!, true);
    }
    at += 8;
  }
  const maps = [...order.keys()].map((fd) => {
    const map = request.maps.find((m) => m.fd === fd);
    const { id: _id, btfId: _btf, ...info } = map?.info ?? { id: 0, btfId: 0 };
    const { inner, specialFields, frozen } = map ?? {};
    return { ...info, inner, specialFields, frozen: frozen && contentHash(frozen) };
  });
  return createHash("sha256")
    .update(insns)
    .update(JSON.stringify([
      verifier.version,
      verifier.kernelProfile,
      request.type,
      request.expectedAttachType,
      request.flags,
      request.license,
      maps,
    ]))
    .update(request.btf ?? "")
    .update(request.funcInfo ?? "")
    .digest("hex");
}

function versionName(verifier: Verifier): string {
  return fileName(`${verifier.version}`);
}

function fileName(version: string): string {
  return version.replaceAll(/[^A-Za-z0-9._-]/g, "_").replace(/^\.+/, "_");
}
