/**
 * The files of commands that ask no cluster: what is in them, and what of it cannot be read.
 * @module
 */
import { formatFault } from "@weir/common/manifest";
import type { Inventory } from "@weir/policy-engine/offline";
import { type CommandIo, UsageError } from "../context.ts";
import { harmless } from "../harmless_text.ts";
import { readManifests } from "../manifest_files.ts";

/** Faults that are named one by one. */
const FAULTS_SHOWN = 20;

/** How the cluster of the files is called, and the namespace of objects that name none. */
export interface FilesOptions {
  readonly cluster?: string;
  readonly namespace?: string;
}

/**
 * Reads files and directories, with those in them.
 * @throws {UsageError} something cannot be read: an answer from the rest would be about other policies
 */
export async function readFiles(paths: string[], io: CommandIo, options: FilesOptions): Promise<Inventory> {
  const inventory = await inventoryOf(paths, io, options), { faults } = inventory;
  if (faults.length === 0) return inventory;
  for (const fault of faults.slice(0, FAULTS_SHOWN)) {
    io.err(`weir: ${harmless(formatFault(fault, fault.file))}\n`);
  }
  throw new UsageError(
    `Cannot judge ${paths.join(", ")}: ${faults.length} fault${
      faults.length === 1 ? "" : "s"
    } in the manifests`,
  );
}

/** What is in files and directories; what cannot be read is among its faults. */
export async function inventoryOf(
  paths: string[],
  io: CommandIo,
  options: FilesOptions,
): Promise<Inventory> {
  const { readInventory } = await import("@weir/policy-engine/offline");
  const inventory = readInventory(await readManifests(paths, io, { recursive: true }), options);
  const unnamed = inventory.leftOut.get("") ?? 0;
  if (unnamed > 0) io.err(`weir: warning: ${unnamed} without a kind left out: no object of Kubernetes\n`);
  return inventory;
}
