(module
  (import "switchyard:storage/redis@0.1.0" "get" (func $get (param i32 i32 i32 i32 i32)))
  (import "switchyard:storage/redis@0.1.0" "find" (func $find (param i32 i32 i32 i32 i32 i32 i32)))
  (import "switchyard:storage/redis@0.1.0" "scan" (func $scan (param i32 i32 i32 i32 i32 i32 i32)))
  (import "switchyard:storage/redis@0.1.0" "put" (func $put (param i32 i32)))
  (import "switchyard:storage/redis@0.1.0" "add" (func $add (param i32 i32)))
  (import "switchyard:storage/types@0.1.0" "[resource-drop]record" (func $drop-record (param i32)))
  (import "switchyard:storage/types@0.1.0" "[resource-drop]usage" (func $drop-usage (param i32)))
  ;;import
  (memory (export "memory") 2)
  (global $next (mut i32) (i32.const 1024))
  (global $calls (mut i32) (i32.const 0))
  (data (i32.const 512) "bb")
  (func $recurse (param i32) (result i32)
    (i32.add (call $recurse (i32.add (local.get 0) (i32.const 1))) (i32.const 1)))
  (func $start
    ;;start
  )
  (start $start)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (local i32)
    ;;realloc
    (local.set 4 (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
    (global.set $next (i32.add (local.get 4) (local.get 3)))
    (local.get 4))
  (func (export "switchyard:storage/store@0.1.0#get") (param i32 i32 i32 i32) (result i32)
    ;;get
    (call $get (local.get 0) (local.get 1) (local.get 2) (local.get 3) (i32.const 16))
    ;;got
    (global.set $next (i32.const 1024))
    (i32.const 16))
  (func (export "switchyard:storage/store@0.1.0#find") (param i32 i32 i32 i32 i32 i32) (result i32)
    ;;find
    (call $find (local.get 0) (local.get 1) (local.get 2) (local.get 3) (local.get 4) (local.get 5) (i32.const 16))
    (global.set $next (i32.const 1024))
    (i32.const 16))
  (func (export "switchyard:storage/store@0.1.0#scan") (param i32 i32 i32 i32 i32 i32) (result i32)
    (call $scan (local.get 0) (local.get 1) (local.get 2) (local.get 3) (local.get 4) (local.get 5) (i32.const 16))
    ;;scanned
    (global.set $next (i32.const 1024))
    (i32.const 16))
  (func (export "switchyard:storage/store@0.1.0#put") (param i32) (result i32)
    ;;put
    (call $put (local.get 0) (i32.const 16))
    ;;done
    (call $drop-record (local.get 0))
    (i32.const 16))
  (func (export "switchyard:storage/store@0.1.0#add") (param i32) (result i32)
    (call $add (local.get 0) (i32.const 16))
    (call $drop-usage (local.get 0))
    (i32.const 16)))
