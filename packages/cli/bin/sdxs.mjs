#!/usr/bin/env node
// Committed, so that installing the workspace links it before anything is built.
import "../dist/bin.js";
