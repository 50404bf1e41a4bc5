"""A student that learns from a teacher: the teacher's scores or answers, made, kept and learnt."""
