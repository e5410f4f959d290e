;; binary16 to float32, four elements at a time.
(module
  (memory (export "memory") 6)

  ;; `count` bit patterns, a multiple of 4, from `patterns` on become as many float32 from `values` on.
  ;; Exponent and mantissa moved to their places give the value times 2^-112, subnormal ones included.
  (func (export "decodeFloat16") (param $patterns i32) (param $values i32) (param $count i32)
    (local $end i32) (local $pattern v128) (local $magnitude v128)
    (local.set $end (i32.add (local.get $patterns) (i32.shl (local.get $count) (i32.const 1))))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $patterns) (local.get $end)))
        (local.set $pattern (v128.load16x4_u (local.get $patterns)))
        (local.set $magnitude (v128.and (local.get $pattern) (i32x4.splat (i32.const 0x7fff))))
        (v128.store (local.get $values)
          (v128.or
            (v128.or
              (f32x4.mul (i32x4.shl (local.get $magnitude) (i32.const 13)) (f32x4.splat (f32.const 0x1p112)))
              ;; Infinity and NaN keep the largest exponent.
              (v128.and
                (i32x4.gt_s (local.get $magnitude) (i32x4.splat (i32.const 0x7bff)))
                (i32x4.splat (i32.const 0x7f800000))))
            (i32x4.shl (v128.xor (local.get $pattern) (local.get $magnitude)) (i32.const 16))))
        (local.set $patterns (i32.add (local.get $patterns) (i32.const 8)))
        (local.set $values (i32.add (local.get $values) (i32.const 16)))
        (br $next)))))
