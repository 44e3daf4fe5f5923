# constraints.txt without PyTorch and the CUDA packages that it asks for; with -v torch=1 PyTorch's two pins alone.
/^[^ #]/ {
    name = $0
    sub(/[=<>; \[].*/, "", name)
    ours = name ~ /^(torch|torchvision)$/
    left_out = ours || name ~ /^(triton|nvidia-.*|cuda-.*)$/
    if (torch && ours) { line = $1; print line }
}
!torch && !left_out { print }
