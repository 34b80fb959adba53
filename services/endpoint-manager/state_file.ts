/**
 * Small files that outlive a crash of the machine: written beside, synced, renamed, and the directory synced. Whoever
 * reads finds the old or the new one, never half of it.
 * @module
 */
import { ProblemError } from "@weir/common";

/** ENDPOINT_STORE_FAILED: what could not be done to which file, and why. */
export function storeFailed(what: string, path: string, cause: unknown): ProblemError {
  const full = cause instanceof Error && /os error 28|ENOSPC|os error 122/.test(cause.message);
  const readOnly = cause instanceof Error && /os error 30|EROFS/.test(cause.message);
  return new ProblemError("ENDPOINT_STORE_FAILED", {
    status: 507,
    detail: `Cannot ${what} ${path}: ${cause instanceof Error ? cause.message : String(cause)}`,
    found: full ? "a full disk" : readOnly ? "a read-only disk" : undefined,
    expected: full || readOnly ? "a disk that can be written" : undefined,
    action: "Make room or mount it writable; nothing was changed",
    cause,
  });
}

/** Writes a whole file. @throws {ProblemError} ENDPOINT_STORE_FAILED; the file of before is still there then */
export async function writeStateFile(path: string, text: string): Promise<void> {
  const temporary = `${path}.tmp`;
  try {
    const file = await Deno.open(temporary, { write: true, create: true, truncate: true, mode: 0o640 });
    try {
      const bytes = new TextEncoder().encode(text);
      for (let at = 0; at < bytes.length;) at += await file.write(bytes.subarray(at));
      await file.sync();
    } finally {
      file.close();
    }
    await Deno.rename(temporary, path);
    await syncDirectoryOf(path);
  } catch (cause) {
    await Deno.remove(temporary).catch(() => {});
    throw storeFailed("write", path, cause);
  }
}

/** Renames, for good. @throws {ProblemError} ENDPOINT_STORE_FAILED */
export async function renameStateFile(from: string, to: string): Promise<void> {
  try {
    await Deno.rename(from, to);
    await syncDirectoryOf(to);
  } catch (cause) {
    throw storeFailed("rename", from, cause);
  }
}

/** Removes, for good. Repeatable. @throws {ProblemError} ENDPOINT_STORE_FAILED */
export async function removeStateFile(path: string): Promise<void> {
  try {
    await Deno.remove(path);
    await syncDirectoryOf(path);
  } catch (cause) {
    if (!(cause instanceof Deno.errors.NotFound)) throw storeFailed("remove", path, cause);
  }
}

/** A rename is on the disk only when its directory is. */
async function syncDirectoryOf(path: string): Promise<void> {
  const directory = await Deno.open(path.slice(0, path.lastIndexOf("/")) || "/", { read: true });
  try {
    await directory.sync();
  } finally {
    directory.close();
  }
}
