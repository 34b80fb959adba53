/**
 * containerd's store with the images of a cluster in it, made once. A node begins with a copy whose files are the same files
 * (hard links): what containerd keeps of an image it never changes, only its databases.
 * @module
 */
import { type Cache, exists } from "../cluster/layout.ts";
import { joining } from "../cluster/namespaces.ts";
import { ok } from "../cluster/process.ts";
import { archiveOf, type ImageName, IMAGES } from "./images.ts";

const IMPORT_SECONDS_MAX = 900;

/** Imports every image into a new store, in mounts and processes of its own that end with it. */
const IMPORT = `
folder=$1 snapshotter=$2; shift 2
socket=$folder/containerd.sock
containerd --config "$folder/config.toml" --root "$folder/root" --state "$folder/state" --address "$socket" >"$folder/log" 2>&1 &
tries=0
until ctr --address "$socket" version >/dev/null 2>&1; do
  tries=$((tries + 1))
  [ "$tries" -lt 300 ] || { tail -n 5 "$folder/log" >&2; exit 1; }
  sleep 0.1
done
for archive in "$@"; do
  ctr --address "$socket" --namespace k8s.io images import --snapshotter "$snapshotter" "$archive" >/dev/null
done
kill $!
wait $! || true
`;

/** Makes the store where there is none. */
export async function makeStore(cache: Cache, say: (text: string) => void): Promise<void> {
  if (exists(cache.store)) return;
  say("images, unpacked as nodes begin with them");
  const folder = `${cache.store}.new`;
  await ok(["rm", "-rf", folder]);
  await Deno.mkdir(folder);
  // What answers kubelets has no part in this.
  await Deno.writeTextFile(
    `${folder}/config.toml`,
    'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n',
  );
  const archives = (Object.keys(IMAGES) as ImageName[]).map((name) => archiveOf(cache, name));
  const alone = [
    "unshare",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
    "--propagation",
    "private",
    "--mount-proc",
  ];
  const words = [...alone, "sh", "-euc", IMPORT, "import", folder, await snapshotterFor(cache), ...archives];
  await ok(words, { seconds: IMPORT_SECONDS_MAX, env: { PATH: cache.path } });
  await Deno.rename(`${folder}/root`, cache.store);
  await ok(["rm", "-rf", folder]);
}

/**
 * Gives a node its store.
 * @param target does not exist yet
 * @param groups Control groups of what copies: it ends with the cluster, whoever started it.
 */
export async function copyStore(cache: Cache, target: string, groups: readonly string[]): Promise<void> {
  // A database that two containerds wrote would be neither's.
  const copy = `cp --archive --link "$1" "$2"
    find "$2" -name "*.db" | while read -r file; do cp "$file" "$file.own"; mv "$file.own" "$file"; done`;
  await ok(joining(groups, ["sh", "-euc", copy, "copy", cache.store, target]));
}

/** An overlay cannot be the upper half of another: there layers are copied. */
export async function snapshotterFor(cache: Cache): Promise<"native" | "overlayfs"> {
  const type = await ok(["stat", "--file-system", "--format=%T", cache.directory]);
  return type.trim() === "overlayfs" ? "native" : "overlayfs";
}
