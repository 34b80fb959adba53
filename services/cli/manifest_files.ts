/**
 * Files behind `-f`: a file, a directory (its .yaml, .yml and .json files in order of name), a pipe such as a shell's
 * `<(...)`, `-` for stdin.
 *
 * @module
 */
import { InputFileError, readInput } from "@weir/common/input-file";
import type { ManifestFile } from "@weir/proto/lab";
import { type CommandIo, UsageError } from "./context.ts";

/** Largest manifest that is read, in bytes. */
export const MANIFEST_BYTES_MAX = 16 << 20;
const STDIN = new Set(["-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"]);

/** Options of {@link readManifests}. */
export interface ReadManifestsOptions {
  /** Directories in directories too; one in which there is nothing is nothing then. */
  readonly recursive?: boolean;
}

/** Reads every file of the paths. */
export async function readManifests(
  paths: string[],
  io: CommandIo,
  options: ReadManifestsOptions = {},
): Promise<ManifestFile[]> {
  const files: ManifestFile[] = [];
  for (const path of paths) {
    if (!STDIN.has(path) && await isDirectory(path)) files.push(...await readDirectory(path, options));
    else files.push(await readManifest(path, io));
  }
  return files;
}

/** Reads one file, pipe, or stdin. */
export async function readManifest(path: string, io: CommandIo): Promise<ManifestFile> {
  if (STDIN.has(path)) {
    return { file: "stdin", directory: Deno.cwd(), text: await io.readStdin(MANIFEST_BYTES_MAX) };
  }
  return await readPath(path);
}

async function readPath(path: string): Promise<ManifestFile> {
  const bytes = await readInput(path, { bytesMax: MANIFEST_BYTES_MAX }).catch(asUsage);
  return { file: path, directory: await directoryOf(path), text: new TextDecoder().decode(bytes) };
}

/** Directories in one another that are followed; links may lead in circles. */
const DEPTH_MAX = 16;

async function readDirectory(
  path: string,
  { recursive = false }: ReadManifestsOptions,
  depth = 0,
): Promise<ManifestFile[]> {
  const names: string[] = [];
  for await (const { name } of Deno.readDir(path)) {
    if (recursive ? !name.startsWith(".") : isManifest(name)) names.push(name);
  }
  const files: ManifestFile[] = [];
  for (const name of names.sort()) {
    const file = `${path.replace(/\/+$/, "")}/${name}`;
    // What a link leads to counts; a pipe among manifests is nobody's wish.
    const info = await Deno.stat(file).catch(() => undefined);
    if (info?.isFile && isManifest(name)) files.push(await readPath(file));
    if (!recursive || !info?.isDirectory) continue;
    if (depth >= DEPTH_MAX) {
      throw new UsageError(`Cannot read ${file}: more than ${DEPTH_MAX} directories deep`);
    }
    files.push(...await readDirectory(file, { recursive }, depth + 1));
  }
  if (files.length === 0 && depth === 0) {
    throw new UsageError(`Cannot read ${path}: no .yaml, .yml or .json file in it`);
  }
  return files;
}

function isManifest(name: string): boolean {
  return /\.(ya?ml|json)$/.test(name);
}

/** Where commands of pods run: beside their manifest, or for what has no place of its own where the caller is. */
async function directoryOf(path: string): Promise<string> {
  const info = await Deno.stat(path);
  if (!info.isFile) return Deno.cwd();
  const absolute = await Deno.realPath(path).catch(() => undefined);
  return absolute === undefined ? Deno.cwd() : absolute.slice(0, absolute.lastIndexOf("/")) || "/";
}

async function isDirectory(path: string): Promise<boolean> {
  const info = await Deno.stat(path).catch(() => undefined);
  if (info === undefined) throw new UsageError(`Cannot read ${path}: there is no such file or directory`);
  return info.isDirectory;
}

function asUsage(error: unknown): never {
  if (error instanceof InputFileError) throw new UsageError(error.message);
  throw error;
}
