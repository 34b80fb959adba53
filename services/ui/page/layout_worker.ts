/**
 * ELK in a worker: a file of its own, so that a large map is laid out beside the page and not in it.
 * @module
 */
import "elkjs/lib/elk-worker.min.js";
